"""The knowledge base embedded anew while training goes on."""
