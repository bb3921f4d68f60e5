"""UDP multicast for Python at the speed of C."""
