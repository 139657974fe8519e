"""A store in the browser: a page to see the cells, and a log of what people call them. Needs the extra `view`."""
