"""History computed by Spark, through Spark Connect."""
