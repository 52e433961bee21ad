"""The asyncio side: everything that touches the network."""
