"""What a run takes from earlier runs instead of computing it anew."""
