def Query(default, **options):
    return default


File = Query
