"""How entropy moves under a policy update: exact formulas, and the covariances that predict it."""
