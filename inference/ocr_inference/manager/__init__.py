"""The owner task of all models: commands in, a decision, its effects carried out; leases on models that are ready."""
