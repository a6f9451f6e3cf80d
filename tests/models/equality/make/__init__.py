"""Make ``../stored`` anew from checkouts of the references; see ``CONTRIBUTING.md``.

``python -m tests.models.equality.make.semseg FOLDER`` builds the networks of the checkout in
FOLDER, gives them our weights and stores some of their logits. No test runs these files.
"""
