"""The side module that trains: reads exported files, writes artefact folders, never imports the server."""
