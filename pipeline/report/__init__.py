"""What people read: summaries of jobs, from their reports and tables."""
