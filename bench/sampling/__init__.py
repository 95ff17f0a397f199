"""The sampling loop that every arm goes through: records, schedule, session, cost, attention maps."""
