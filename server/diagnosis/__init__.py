"""What `fewshot doctor` looks at. Nothing here changes anything: no upgrade, no download, no new folder."""
