"""How servers are reached that several families share: addresses, pools, and their errors in our words."""
