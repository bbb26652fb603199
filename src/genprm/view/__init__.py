"""The report page: one HTML file that needs no network, made from a `Report` and verified solutions."""

from genprm.view.page import render_report, write_report

__all__ = ["render_report", "write_report"]
