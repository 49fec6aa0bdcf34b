"""Files from strangers: every reader is given damaged and hostile files, and watched while it reads them."""
