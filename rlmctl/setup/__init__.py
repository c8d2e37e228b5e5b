"""The first configuration: what is asked, what is proposed, what is written."""
