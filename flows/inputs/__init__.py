"""From files, archives and announcements to exposures."""
