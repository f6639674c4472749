"""The authors' released code, where it differs from their papers.

Each module subclasses the layers and models of one paper. Only the registry of models imports this
package; the names of its models end in `_released`.
"""
