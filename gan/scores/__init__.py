"""How good generated samples are: metrics, the scoring classifier, and the callbacks that compute them."""
