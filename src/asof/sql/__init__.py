"""SQL of reads over history and archives, per dialect; nothing runs here."""
