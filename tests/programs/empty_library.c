// A shared library without anything: what it costs to preload any.
