"""The shipped suites on the products: one module for each family and product, so that a gap shows in the listing."""
