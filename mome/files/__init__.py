"""What lies on disk, written so that no kill and no full disk leaves a half: folders, checkpoints, locks, JSON."""
