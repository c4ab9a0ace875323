"""How a running command is seen from outside: logs, metrics, traces."""
