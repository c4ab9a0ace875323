"""Settings, secrets, logs, traces and figures of any command."""
