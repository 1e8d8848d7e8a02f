"""NetFlow v5, v9 and IPFIX from the wire: `udp` and `tcp` receive, `decoder` reads datagrams of any version."""
