"""One ESP SA in each direction: replay window, counters, selectors, and the table of them."""
