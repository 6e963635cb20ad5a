"""Networks of others, brought into the contract of `ranet.models.StagedNetwork`."""
