"""Many runs in one table: suites of runs, their trainings, and what they come to."""
