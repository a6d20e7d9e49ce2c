"""What an image weighs: manifests, configurations and histories read into layers, and what differs between versions."""
