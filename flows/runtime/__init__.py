"""Settings, secrets, logs, traces and metrics of any command."""
