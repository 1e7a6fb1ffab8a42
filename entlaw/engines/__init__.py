"""Our losses, choices and measurements in other people's trainers: verl on Ray, TRL."""
