"""Every camera driver against its real counterpart, under faults and loads: `make soak-cameras`."""
