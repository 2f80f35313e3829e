// The client in Go: client URL prints the answer. It tries one address after the other, and asks for no keepalive.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	dialer := net.Dialer{KeepAlive: -1, FallbackDelay: -1}
	transport := http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}}
	answer, err := (&http.Client{Transport: &transport}).Get(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	io.Copy(os.Stdout, answer.Body)
}
