"""What an agent is shown, and how it is made to fit."""
