def test_try(finished): print(finished)
