"""What an instance is told: `instance.yaml`, the environment, their defaults and their mistakes."""
