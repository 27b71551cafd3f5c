"""Models that were made elsewhere: verified as hostile until shown otherwise, and registered as versions."""
