"""What stands between the application and a dependency that fails."""
