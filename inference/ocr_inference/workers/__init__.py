"""Worker processes: started, forked, standing by, called, ended."""
