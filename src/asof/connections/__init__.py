"""How servers are reached that several families share: addresses, pools, and their errors as Asof's."""
