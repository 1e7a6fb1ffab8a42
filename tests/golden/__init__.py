"""What the commands say of the shipped runs and of the public logs, kept so that no change goes unseen."""
