"""What any program needs: whole files, strict JSON, hardware, the console; knows nothing of networks."""
