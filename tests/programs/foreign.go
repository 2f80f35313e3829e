// A program of Go: threads, a child, names and connections, all without libc. Prints its arguments and
// what it sees of these, and ends with status 7.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// echo connects to a listener of its own, and gives back what comes back.
func echo(text string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go func() {
		accepted, err := listener.Accept()
		must(err)
		io.Copy(accepted, accepted)
		accepted.Close()
	}()
	connection, err := net.Dial("tcp", listener.Addr().String())
	must(err)
	fmt.Fprint(connection, text)
	connection.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(connection)
	must(err)
	return string(answer)
}

func main() {
	if len(os.Args) == 1 {
		fmt.Println("child")
		os.Exit(3)
	}
	var wait sync.WaitGroup
	answers := make([]string, 50)
	for i := range answers {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			answers[i] = echo(fmt.Sprint(i))
		}(i)
	}
	wait.Wait()
	addresses, err := net.LookupHost("localhost")
	must(err)
	child, err := exec.Command(os.Args[0]).CombinedOutput()
	fmt.Println(os.Args[1:], os.Getenv("FOREIGN"), answers, addresses, string(child), err)
	fmt.Fprintln(os.Stderr, "an error")
	os.Exit(7)
}
