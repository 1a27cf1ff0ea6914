"""What a page shows: tables and figures, made from results. Nothing here needs torch but one figure."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "summary": ["Summary", "gain", "select", "summarise"],
        "html_tables": ["Cell", "provenance", "sources", "table"],
        "tables": ["compare", "table_settings"],
        "figures": ["show"],
    },
)
