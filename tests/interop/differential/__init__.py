"""Two servers, or a server and a recording, asked the same things: what they answer is compared here."""
