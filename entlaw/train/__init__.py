"""Training: RL on language models with verifiable rewards, entropy and covariance logged exactly."""
