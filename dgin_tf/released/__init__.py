"""The authors' released code where it computes something else than their papers print.

Subclasses of the paper's layers and models, one module for each paper. Nothing outside this package
imports it but the registry of models, where their names end in `_released`.
"""
