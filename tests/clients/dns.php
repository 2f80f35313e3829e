<?php
// A client that asks libresolv: dns.php HOST PATH prints the answer. It tries one address after the other, IPv6 first.
[, $host, $path] = $argv;
foreach ([DNS_AAAA, DNS_A] as $type) {
    foreach (dns_get_record($host, $type) as $record) {
        $address = $type == DNS_A ? $record['ip'] : "[$record[ipv6]]";
        $connection = @stream_socket_client("tcp://$address:80");
        if ($connection) {
            fwrite($connection, "GET $path HTTP/1.0\r\n\r\n");
            exit(explode("\r\n\r\n", stream_get_contents($connection))[1]);
        }
    }
}
exit(1);
