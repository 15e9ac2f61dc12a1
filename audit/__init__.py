"""What memscale is installed with: licences, hashes, known vulnerabilities (`make audit`)."""
