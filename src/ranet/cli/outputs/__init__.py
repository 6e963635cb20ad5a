"""What commands leave: folders of their own, the record of a run, policies and the origin of predictions."""
