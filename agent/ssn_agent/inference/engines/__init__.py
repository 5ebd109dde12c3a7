"""The engines that run a graph, and which of them there are on this machine."""
