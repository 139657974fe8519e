import pytest

from cellfeat.cli import main


def test_check_takes_a_name_or_a_folder(sites, data_root, capsys):
    for dataset in (data_root[0], str(sites[0] / data_root[0])):
        with pytest.raises(SystemExit) as ended:
            main(["check", dataset])
        assert ended.value.code == 0
        assert "images: 13" in capsys.readouterr().out
