"""How requests reach a server: addresses, connections, the two protocols, several servers as one, and retries."""
