"""A trained model as versions on disk: signatures, bundle, warm-up requests, vocabularies."""
